"""Method and path of one request for each operation of OpenAI's API beside its texts."""

from __future__ import annotations

MORE_OPEN = (
    ("POST", "/v1/images/generations"),
    ("POST", "/v1/images/edits"),
    ("POST", "/v1/images/variations"),
    ("POST", "/v1/audio/speech"),
    ("POST", "/v1/audio/transcriptions"),
    ("POST", "/v1/audio/translations"),
    ("POST", "/v1/decisions"),
    ("POST", "/v1/moderations"),
    ("POST", "/v1/files"),
    ("GET", "/v1/files"),
    ("GET", "/v1/files/file-1"),
    ("DELETE", "/v1/files/file-1"),
    ("GET", "/v1/files/file-1/content"),
    ("POST", "/v1/uploads/upload_1/complete"),
    ("POST", "/v1/uploads/upload_1/cancel"),
    ("POST", "/v1/vector_stores/vs_1/search"),
    ("POST", "/v1/containers"),
    ("POST", "/v1/threads"),
    ("POST", "/v1/batches"),
    ("GET", "/v1/batches/batch_1"),
    ("POST", "/v1/batches/batch_1/cancel"),
    ("GET", "/v1/fine_tuning/jobs/ftjob-1"),
    ("POST", "/v1/threads/runs"),
    ("POST", "/v1/threads/thread_1/runs"),
    ("POST", "/v1/videos"),
    ("POST", "/v1/realtime/client_secrets"),
    ("GET", "/v1/organization/a/b/c/d/e/f/g/h"),
)
