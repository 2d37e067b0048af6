// Nothing of its own: the headers that tests share are compiled with it (tests/CMakeLists.txt).
