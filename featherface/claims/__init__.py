"""The ledger of claims: each number of the design document as a test with an answer."""
