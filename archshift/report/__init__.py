"""What people read: the report, the comment on a preview, the doctor."""
