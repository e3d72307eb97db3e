"""Credentials that a cloud wants made for it: signatures of AWS, access tokens of Google.

aws               signs a request with an AWS key
google            access tokens of service accounts, minted and kept
google_endpoint   the endpoint at which Google mints them
token_host        speaks to one URL, and to no other
"""
