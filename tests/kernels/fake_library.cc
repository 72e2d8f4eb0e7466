// What fake_plugin.cc needs.
extern "C" int fake_library() { return 1; }
