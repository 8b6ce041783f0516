"""What tests of several parts build with: small models, tiny data sets, fakes, scenes."""
