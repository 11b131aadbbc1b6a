TESTS += codec/test_number codec/test_record codec/test_complete codec/test_reader codec/test_question
