"""gRPC in: from the bytes of a call to a use case, and back.

`boundary` is the outermost frame of every call: it parses, answers and turns every failure
into a status, so that nothing unforeseen is ever told to a caller. Inside it a servicer
checks (`checks`, by the table in `constraints`), converts (`convert_*`), calls one use case
and encodes. What is wrong with a request is reported all at once, by path.
"""
