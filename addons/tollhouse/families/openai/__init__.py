"""OpenAI's API, and that of all who speak like it: https://platform.openai.com/docs/api-reference.

routes         the endpoints
routes_more    those beside texts
never_open     what gives a credential or administrates the account
more_kinds     how those are read and metered
images         images, made and edited
audio          speech, and sound that is written down
sound          how long the sound of a file is
decisions      questions about a text
kept_objects   files and other things that the provider keeps
form_fields    fields of a body of JSON or of a form
paid           what an answer says that it costs
answers        answers of images and sound, as they pass by
media_usage    what their usage means
variants       the same API at companies that speak it differently
other_errors   what the errors of those companies say of a key
request        the body of a chat or of embeddings, read strictly
known_fields   the fields of a request that are known
estimate       the tokens that a request will take
media          tokens of images, audio and files
pixels         width and height of an image
models         which models can reason in silence
rewrite        the bytes of a request that are changed
meter          usage in an answer, as it streams by
usage          what the members of an answer mean
spoken         ids of the sound in an answer
errors         our errors, and what theirs say of a key
body_fields    fields of a body, judged by a table
objects        ids of kept objects that a body names
tools          the tools that the provider runs, and their bounds
completions    the legacy completions

Of the Responses and Conversations APIs:

responses            the parts of the family for each kind of their operations
responses_fields     the fields of a request that are known
responses_request    the bodies, read strictly
responses_estimate   the tokens and tools that a request will take
responses_usage      what a response says of its usage
responses_meter      usage in an answer, as it streams by
later                work whose usage comes later: the background, batches
batch_output         a line of a batch's output

Over a WebSocket:

socket_sessions    what its sessions have in common
realtime            usage in its messages
realtime_handshake  what its query names
realtime_dialogue   a session of the Realtime API
wanted_answers     those that it asks for, and whose an error is
written_sound      the sound of one that is written down
responses_dialogue  a session of the Responses API
"""

from __future__ import annotations

from typing import Final

from tollhouse.families.base import Family
from tollhouse.families.formats.kinds import Kind, Kinds
from tollhouse.families.openai import (
    completions,
    errors,
    estimate,
    later,
    meter,
    request,
    responses,
    rewrite,
    socket_sessions,
)
from tollhouse.families.openai.more_kinds import MORE_KINDS
from tollhouse.families.openai.routes import ROUTES

_TEXT: Final = Kind(request.read, estimate.estimate, meter.meter, rewrite.rewrite)
KINDS: Final = Kinds(
    {
        "chat": _TEXT,
        "embeddings": _TEXT,
        "completions": Kind(
            completions.read, completions.estimate, completions.meter, completions.rewrite
        ),
        **responses.KINDS,
        **socket_sessions.SOCKETS,
        **MORE_KINDS,
    }
)

OPENAI: Final = Family(
    "openai",
    routes=ROUTES,
    error_body=errors.error_body,
    error_event=errors.error_event,
    verdicts=errors.VERDICTS,
    spoken_by_others=True,
    read=KINDS.read,
    rewrite=KINDS.rewrite,
    sent_headers=KINDS.sent_headers,
    estimate=KINDS.estimate,
    meter=KINDS.meter,
    stream_error=errors.stream_error,
    late_meter=later.late_meter,
    dialogue=socket_sessions.dialogue,
    socket_error=socket_sessions.socket_error,
)
