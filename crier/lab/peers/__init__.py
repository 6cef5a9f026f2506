"""Others that do what Crier does, run in the lab beside it: for comparison, never for use."""
