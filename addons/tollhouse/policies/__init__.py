"""What `tollhouse policy render` writes: the wall around the gateway, from the gateway's own configuration. One module a target.

targets     the table of targets
rendering   what a target gives: files, and what is left to say
places      what the configuration says of ports, hosts and stores
nftables    a packet filter, of a host and of a router
compose     containers of one machine
systemd_service   one service of a machine
"""
