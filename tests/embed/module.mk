TESTS += embed/test_hash embed/test_cmd embed/test_url
