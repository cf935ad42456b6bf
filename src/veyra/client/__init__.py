"""The spine: a call, and the attempts that it takes."""
