//! Guest memory: one flat mapping, and what is known of each page.
