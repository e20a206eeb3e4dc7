"""Files and fronts: finish, choose, report."""
