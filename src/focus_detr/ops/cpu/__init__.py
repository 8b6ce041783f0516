"""Native CPU back end: C++ (msda.cpp) loaded with ctypes and registered as torch operators."""
