"""Generated cohorts: chest CT volumes, reports and the known truth of both."""
