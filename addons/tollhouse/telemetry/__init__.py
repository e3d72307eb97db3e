"""Calls as an OpenTelemetry collector is told of them: a span a call, and the metrics of the GenAI conventions. Nothing here runs
on a call but `handed`, and only `sdk`, `spans` and `instruments` know OpenTelemetry's libraries.

handed       what is kept of a call for its telemetry
trace_parent  the workload's trace context
conventions  names of operations, attributes and metrics, in two versions
attributes   what a span and a metric say of a call
spans        calls as spans
instruments  calls as metrics
sdk          OpenTelemetry's SDK: exporters, and what they have lost
deadline     requests to the collector that end in time
telemetry    the queue between the calls and the thread that tells of them
"""
