"""What every room uses: errors, labels, times, text. Imports nothing of ours."""
