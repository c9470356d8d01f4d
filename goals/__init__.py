"""What to reach: columns of experience, relabeling, rewards and goal samplers.

Imports nothing to its right (agents, planning, imagoal) and needs no model: a replay turns code indices into latents with
a `lookup` that it is given.
"""
