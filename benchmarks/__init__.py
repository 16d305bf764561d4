"""What users would pick instead, measured beside this service on the same servers, and the plots."""
