"""How to reach a goal: goal-conditioned actor-critics, one file per algorithm.

An agent sees observations [latent z | proprio] and goals (latents); it owns its networks and optimisers. `update(batch)` takes
one gradient step and returns 0-d tensors; `act` gives actions in [-1, 1]; `checkpoint`/`restore` continue exactly.
"""
