"""The page: a leaderboard as one folder that opens in a browser, from disk or from any static host."""
