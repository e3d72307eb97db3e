"""What people do with a gateway: the commands, the operations behind them, and what probes ask.

commands_*              one file a group of commands    client      their way to the stores
operations              projects, tokens, budgets       control     the socket of a running gateway
check, check_*          `tollhouse check`               init        `tollhouse init`, from template.toml
http                    the admin listener's pages      lock        one process a state directory
metrics                 what /metrics shows
"""
