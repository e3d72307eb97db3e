"""What a unit costs. Prices multiply counts; no other room knows money by the unit.

table     what a call costs: found, multiplied, rounded up
rates     the values: what a unit costs, of which model
sums      the arithmetic, in integers
itemised  the price of a charge, unit by unit
own       the configuration's prices, made into `rates`
source    the data of genai-prices, made into `rates`
kept      a newer data file of genai-prices, in the state directory
in_use    what a running gateway charges by, and how newer prices take its place
builtin   what genai-prices lacks: tools, models, and what is free
factors   what a price is multiplied by: regions and tiers
patterns  whether two patterns of names have a name in common
shown     the prices of a model, for people
"""
