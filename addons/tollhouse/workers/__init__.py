"""The gateway's own processes: one supervisor, and under it the workers and the desk.

supervisor    starts, watches, replaces and ends them; it has no loop, no thread and no connection
succession    how one generation of workers follows another: start, reload, take-over, end
generation    the workers of one configuration, and what makes them
upgrade       the supervisor replaces its own program
inheritance   what a program leaves to the one that replaces it
requests      what the desk asks, and the answers of workers that this waits for
desk_process  the supervisor's side of the desk
starter       how the processes are started, and what each of them is given
children      all of them: what they say, which have ended, hang, or are late
child         what the supervisor knows of one of them, and the fork
signals       the signals that the supervisor is sent
estate        what workers that have ended leave
restarts      when a worker that died is started again
privileges    a gateway that was started as root becomes its own user
listening     the listening sockets, which outlive every worker
channel       the messages between the supervisor and its children
worker        what a worker does beside its gateway
desk          the process of the admin listener and of the control socket
systemd       readiness, the watchdog and socket activation
"""
