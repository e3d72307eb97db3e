"""Who calls, where to, and on whose account: the gates before anything is held. They speak to nobody
but `accounts`.

gate         the first five gates in their order, and what makes them
authority    the one host that is meant
path         the path and the query, as the bytes that will be sent
openness     the refusals of endpoints that are closed
identifying  the chain of identifiers
identity     the credential that decides, and the project that pays
own_login    a workload's own login at its provider
subprotocols  a key among the subprotocols of a WebSocket
strip        the headers that may go on
call_limits  the gate that bounds the calls under way
connection_limits  the connections of a token and of a tenant
reading      the gate that reads the body and estimates the call
readers      the threads that read large bodies
bodies       how many bytes of bodies the process keeps, and for whom
uploads      which bodies may be files, and how each of them begins
upload       the body of one, sent as it comes
upload_spool  the disk on which they wait
by_model     the gate by which calls at the base URL go by their model
models       the gate of a project's list of models
passing      who may have a tunnel passed on
"""
