"""What archshift needs from outside Python: the pinned programs, and what finds or builds them."""
