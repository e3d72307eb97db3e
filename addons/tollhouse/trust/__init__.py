"""What workloads trust: the CA and its leaves. It speaks to the state directory.

ca                the CA, limited to the providers' hosts
leaf              a TLS server context for each host
bundle            the public roots and ours
pem_files         the place of a private key
state_directory   whether the state directory is ours alone
"""
