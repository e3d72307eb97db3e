"""The gateway's own processes: one supervisor, and under it the workers and the desk.

supervisor   starts, watches, replaces and ends them; it has no loop, no thread and no connection
children     what the supervisor knows of each process, and the fork
generation   the workers of one configuration
restarts     when a worker that died is started again
listening    the listening sockets, which outlive every worker
channel      the messages between the supervisor and its children
worker       what a worker does beside its gateway
desk         the process of the admin listener and of the control socket
upgrade      the supervisor replaces its own program
systemd      readiness, the watchdog and socket activation
"""
