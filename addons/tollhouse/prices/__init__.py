"""What a unit costs. Prices multiply counts; no other room knows money by the unit.

table    what a call costs: found, multiplied, rounded up
rates    the values: what a unit costs, of which model
sums     the arithmetic, in integers
source   the data of genai-prices, made into `rates`
"""
