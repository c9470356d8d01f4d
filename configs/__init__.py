"""What to run: Hydra groups (env, vision, goals, agent, planner), one file per job, one experiment per paper system."""
