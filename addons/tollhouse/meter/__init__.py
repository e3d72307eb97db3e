"""What passes by is read: the request before it leaves, the answer as it streams. What it cost.

request                 the body, read strictly         openai      usage in an answer, as it streams
jsonscan, sse           members and events as bytes     reading     what an answer's members mean
redact                  our key taken out of answers    prices      what a usage costs
price_format            the table of prices; _export writes it, _file reads it, _sum computes with it
"""
