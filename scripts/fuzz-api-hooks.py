"""What schemathesis cannot read from the description of the API; loaded by scripts/fuzz-api."""

import json

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(ctx, value):
    """NDJSON: the description says "a text", whose lines are records."""
    if isinstance(value, bytes):
        return value
    return value if isinstance(value, str) else json.dumps(value)


@schemathesis.hook
def map_query(ctx, query):
    """`window` excludes `from` and `to`, which OpenAPI has no words for: left as they are, hardly a question would get
    past that refusal. Half of those that have both lose one side; the others stay, since the refusal is to be seen too."""
    if query and "window" in query and ("from" in query or "to" in query):
        pick = len(json.dumps(query, sort_keys=True, default=str)) % 4
        if pick < 2:
            query.pop("from", None)
            query.pop("to", None)
        elif pick == 2:
            query.pop("window", None)
    return query


@schemathesis.hook
def map_path_parameters(ctx, parameters):
    """Of two thousand million numbers some sixty are endpoints; half of the questions are to ask about one."""
    number = (parameters or {}).get("id")
    if isinstance(number, int) and not isinstance(number, bool) and number > 60 and number % 2:
        parameters["id"] = number % 60 + 1
    return parameters
