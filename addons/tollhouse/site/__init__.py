"""The admin listener. It speaks to probes and to people, changes nothing and shows no secret.

admin_site   the listener as the file has it
http         /livez, /readyz, /metrics
page         the status page
access       who may look
views        what is shown, computed once for all who look at the same
connections  none is kept on which nothing is asked
charts       bars as SVG
metrics      what /metrics shows of one process
totals       the metrics of several processes as those of one
exposition   Prometheus's text
templates/   the page in HTML
static/      its style and its script
"""
