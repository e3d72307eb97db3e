"""The admin listener. It speaks to probes and to people, changes nothing and shows no secret.

http         /livez, /readyz, /metrics
metrics      what /metrics shows of one process
totals       the metrics of several processes as those of one
exposition   Prometheus's text
"""
