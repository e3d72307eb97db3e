"""`tollhouse demo`, and what the tests share with it: a stand-in provider, a real gateway and real workloads.

demo                    the acts, in order              screen      what is printed, claims checked
standin, standin_*      the provider that is played     gateway_*   a gateway as a process of its own
workload_*              scripts with the OpenAI SDK     run_workload, child_output
"""
