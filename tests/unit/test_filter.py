"""Which events a filter chooses, held to a plainer way to say it."""

from fnmatch import fnmatchcase

from hypothesis import given
from hypothesis import strategies as st

from signalpost.domain.event import Resource
from signalpost.domain.filter import EventFilter

# Few words, so that they often meet; one is the beginning of another.
word = st.sampled_from(["tool", "tools", "list_changed", "a"])
event_type = st.lists(word, min_size=2, max_size=3).map(".".join)
family = word.map("{}.*".format)
resource = st.builds(Resource, word, word)
words = st.frozensets(word, max_size=2)
event_filter = st.builds(
    EventFilter,
    event_types=st.frozensets(event_type | family, max_size=3),
    resource_types=words,
    resource_ids=words,
)


@given(event_filter, event_type, resource)
def test_a_filter_chooses_what_each_of_its_fields_names(
    chosen: EventFilter, name: str, about: Resource
) -> None:
    named = [
        not chosen.event_types or any(fnmatchcase(name, one) for one in chosen.event_types),
        not chosen.resource_types or about.type in chosen.resource_types,
        not chosen.resource_ids or about.id in chosen.resource_ids,
    ]
    assert chosen.matches(name, about) == all(named)


@given(event_filter, event_filter, event_type, resource)
def test_a_filter_that_names_more_in_a_field_chooses_no_less(
    one: EventFilter, other: EventFilter, name: str, about: Resource
) -> None:
    wider = EventFilter(event_types=one.event_types | other.event_types)
    if one.event_types and EventFilter(event_types=one.event_types).matches(name, about):
        assert wider.matches(name, about)


@given(event_type, resource)
def test_an_empty_filter_chooses_everything(name: str, about: Resource) -> None:
    assert EventFilter().matches(name, about)
