"""Speaks to Redis. redis-py's exceptions are translated here, and no other room sees one.

client             the connection, the scripts and the errors
pipeline           scripts of one tick of the event loop, sent together
cluster            a Redis Cluster as one client
cluster_pipeline   the pipeline of a Cluster
sentinel           the master that Sentinels name
urls               Redis URLs, and what they say
outage             whether Redis really is away
embedded_redis     Redis's part without a Redis
"""
