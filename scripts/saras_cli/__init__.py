"""The operators' command line, one module a subject; `scripts.saras` puts it together. See docs/operators-cli.md."""
