"""The tests' own family's samples."""

from __future__ import annotations

from tests.families.samples.kit import Exchange, Samples
from tests.families.tiny import TINY

from tollhouse.families.units import Charge, Units

SAMPLES = (
    Samples(
        TINY,
        (
            ("POST", "/talk"),
            ("GET", "/parrots"),
            ("GET", "/parrots/parrot-1"),
            ("POST", "/nests"),
            ("GET", "/nests"),
            ("GET", "/nests/nest-1"),
            ("DELETE", "/nests/nest-1"),
            ("POST", "/races"),
            ("POST", "/feathers"),
            ("GET", "/keepers/ada"),
        ),
        exchanges=(
            Exchange(
                "whole",
                "/talk",
                b'{"m":"parrot-1","most":20,"say":"hello"}',
                b'{"t":"hello","in":5,"out":2,"by":"parrot-1.2"}',
                (Charge("parrot-1.2", Units(input=5, output=2, requests=1)),),
            ),
            Exchange(
                "live",
                "/talk",
                b'{"m":"parrot-1","most":20,"say":"hello","live":true}',
                b'{"t":"hel"}\n{"t":"lo"}\n{"in":5,"out":2,"by":"parrot-1.2"}\n',
                (Charge("parrot-1.2", Units(input=5, output=2, requests=1)),),
                text=len(b'{"t":"hel"}\n'),
            ),
            Exchange(
                "error",
                "/talk",
                b'{"m":"parrot-1","most":20,"say":"hello","live":true}',
                b'{"t":"hel"}\n{"oops":"internal"}\n',
                (),
                text=len(b'{"t":"hel"}\n'),
                error="internal",
            ),
            Exchange(
                "a nest is named",
                "/talk",
                b'{"m":"parrot-1","most":20,"say":"hello","nest":"nest-1"}',
                b'{"t":"hello","in":5,"out":2,"by":"parrot-1.2"}',
                (Charge("parrot-1.2", Units(input=5, output=2, requests=1)),),
                objects=("nest-1",),
            ),
            Exchange(
                "a nest is made",
                "/nests",
                b"{}",
                b'{"nest":"nest-1"}',
                (),
                created=("nest-1",),
            ),
        ),
        malformed=(b"", b"[]", b'{"m":"a","m":"b"}', b"{}"),
        verdicts=(
            (403, b'{"oops":"broke"}', "no_money"),
            (403, b'{"oops":"other"}', None),
            (401, b"", "refused"),
        ),
    ),
)
