"""Human judging: people say which samples look generated; what they can tell becomes numbers with intervals."""
