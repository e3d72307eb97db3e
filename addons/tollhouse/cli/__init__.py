"""What a person types: one file a command group. Results go to stdout, talk to stderr.

main           the command `tollhouse` and its groups
common         the configuration, the result and the error of every command
progress       what is shown of a command that takes long
render         tables on stdout
run            `demo`, `init`, `check`, `run`
init           what `init` writes
project        `project`, and `apply`
token          `token`
budget         `budget`, and `usage`
prices         `prices`
key            `key`
alerts         `alerts`
ca             `ca`
policy         `policy render`
explain        `explain`
top            `top`
export         `export calls|ocsf|focus`
audit          `audit`
schema         `schema call|api`
doctor         `doctor`
execute        `exec` and `env`
command_token  its token: given, or made and kept valid while it runs
variables      what the environment of a workload must say, and what it must not
foreground     a command that runs in our place
"""
