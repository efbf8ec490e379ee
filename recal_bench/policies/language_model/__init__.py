"""A language model as the policy: what it may reply, how it is prompted, and the small models that run anywhere."""
