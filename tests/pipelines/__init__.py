"""The scripts and workflows of .github/."""
