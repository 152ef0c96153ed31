"""What is deployed to a cluster, read as a cluster would read it: rules, planted errors, tools."""
