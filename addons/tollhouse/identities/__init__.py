"""Who calls, as the platform says it: identities for which no gate token was made. It speaks to issuers.

claims        a JWT's header and claims, read strictly
templates     the project and the tenant, by what a JWT claims
jwks          the public keys of an issuer
key_sets      these, kept and read again
jwt_judge     verifies JWTs, and remembers those that were good
oidc_provider  an OpenID provider at which people log in
people        who a person is at the admin listener
networks      a source address as an identity
certificates  a client certificate as an identity
"""
