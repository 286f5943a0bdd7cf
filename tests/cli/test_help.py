from __future__ import annotations

import pytest
from click.testing import CliRunner

from signalpost.cli.command import COMMANDS, load, signalpost

VARIABLES = {
    "--listen": "SIGNALPOST_LISTEN",
    "--database": "SIGNALPOST_DATABASE_URL",
    "--http": "SIGNALPOST_HTTP",
    "--egress-allow": "SIGNALPOST_EGRESS_ALLOW",
    "--egress-ports": "SIGNALPOST_EGRESS_PORTS",
    "--egress-ca": "SIGNALPOST_EGRESS_CA",
    "--retention": "SIGNALPOST_RETENTION",
    "--failed-retention": "SIGNALPOST_FAILED_RETENTION",
    "--handshake-origin": "SIGNALPOST_HANDSHAKE_ORIGIN",
    "--lane-limit": "SIGNALPOST_LANE_LIMIT",
    "--watch-limit": "SIGNALPOST_WATCH_LIMIT",
    "--reflection": "SIGNALPOST_REFLECTION",
    "--dev": "SIGNALPOST_DEV",
    "--master-key-file": "SIGNALPOST_MASTER_KEY_FILE",
}


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(signalpost, arguments, env={"COLUMNS": "200"})
    return result.exit_code, result.output


@pytest.mark.parametrize("name", ["serve", "migrate", "demo", "listen", "version"])
def test_every_command_is_listed_and_explained(name: str) -> None:
    assert f"  {name} " in invoke("--help")[1]
    code, text = invoke(name, "--help")
    assert code == 0
    assert name == "version" or f"    signalpost {name}" in text, "no example"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_listed_with_the_first_sentence_of_its_help(name: str) -> None:
    command = load(name)
    assert command is not None
    assert command.help is not None
    assert COMMANDS[name] == " ".join(command.help.split(".")[0].split()) + "."


def test_help_of_serve_names_variable_and_default_of_each_flag() -> None:
    introduction, _, options = " ".join(invoke("serve", "--help")[1].split()).partition("Options:")
    assert "SIGNALPOST_MASTER_KEY" in introduction
    for flag, variable in VARIABLES.items():
        description = options.partition(f" {flag}")[2]
        assert f"[{variable}" in description[:400]
        assert "default: " in description[:400]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["listen", "--answer", "99"], "99 is not in the range 200<=x<=599"),
        (["listen", "--port", "70000"], "70000 is not in the range"),
        (["listen", "--delay", "-1"], "-1.0 is not in the range"),
        (["listen", "--secret", "abc"], "a secret must begin with 'whsec_'"),
        (["listen", "--secret", "whsec_YWJj"], "a secret must be 24 to 64 bytes, not 3"),
        (["demo", "--answer", "12"], "12 is not in the range"),
        (["serve", "--nonsense"], "No such option '--nonsense'"),
        (["serve", "extra"], "unexpected extra argument"),
        (["nonsense"], "No such command 'nonsense'"),
    ],
)
def test_mistakes_in_arguments_are_explained(arguments: list[str], message: str) -> None:
    code, text = invoke(*arguments)
    assert code == 2
    assert message in text


def test_a_mistaken_secret_is_not_repeated() -> None:
    code, text = invoke("listen", "--secret", "whsec_bm90bG9uZ2Vub3VnaA==")
    assert code == 2
    assert "bm90bG9uZ2Vub3VnaA" not in text
