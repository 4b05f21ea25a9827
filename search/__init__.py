"""Schedule search: sampling language, traces, spaces, cost models, database and runners."""
