"""How outputs are judged, one file a metric. To add one: its file, and where `search.judge.accuracy` chooses it."""
