"""A fuzz test of everything that reads bytes of a provider or of a workload: ``python -m fuzz``.

readers       the table: each reader by its name, its seeds, and what must hold of it
framings      what cuts and reads bytes without knowing an API: `families.formats`, the codings, the prices
families      meters, requests, errors and paths of each family, by the samples of its tests
mutations     how an input is made from real ones
smallest      the smallest input that still fails
"""
