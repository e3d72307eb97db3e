"""`tollhouse demo`, and what the tests share with it: a stand-in provider, a gateway and workloads.

demo              the acts, in order
screen            what is printed, and claims that are checked
gateway_config    a tollhouse.toml for a gateway with a stand-in
gateway_process   a gateway as a process of its own
run_workload      a workload as a process of its own
child_output      the output of such a process, line by line
standin           the provider that is played
standin_routes    which answer a request gets
standin_answers   the answers, byte for byte
standin_anthropic  its answers as Anthropic gives them
standin_responses  those of completions, responses and conversations
standin_google    its answers as Google gives them
standin_files     its files
standin_sockets   its sessions over WebSockets
standin_script    what it can be told to do instead of answering
standin_book      what it wrote down of a request
standin_tls       its certificate
workload_chat     a workload that chats
workload_message  a workload that asks Claude
workload_thought  a workload that asks Gemini
workload_spend    a workload that calls until it is refused
workload_attack   a workload that tries to get out without paying
"""
