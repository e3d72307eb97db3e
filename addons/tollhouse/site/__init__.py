"""The admin listener. It speaks to probes, to people and to programs that manage projects. It shows no provider's key.

admin_site   the listener as the file has it
http         /livez, /readyz, /metrics
page         the status page
access       who may look
login_attempts  failed logins are bounded
admin_api    projects, tokens and limits over HTTP
api_endpoints  its endpoints, as a table
api_models   what it takes and gives
api_document  its OpenAPI document
problem      how it refuses
views        what is shown, computed once for all who look at the same
connections  none is kept on which nothing is asked
oidc_login   the login at an OpenID provider
charts       bars as SVG
metrics      what /metrics shows of one process
totals       the metrics of several processes as those of one
exposition   Prometheus's text
templates/   the page in HTML
static/      its style and its script
"""
