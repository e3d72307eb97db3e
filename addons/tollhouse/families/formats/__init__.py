"""What several families share: readers of requests and answers, and forms of errors.

document       a JSON body, read strictly and in steps
jsonscan       where the members of a JSON object stand in its bytes
multipart      a body of multipart/form-data, read strictly
content        the content type that a JSON body is sent under
checked        members of a body, each of its type
lowered        a lower output cap in a body
rendered       tokens of what a provider writes anew
text_tokens    how many tokens a text has
kinds          the parts of a family by kind of operation
generic        an endpoint that no family knows
sniffed        which framing an answer has
sse            server-sent events in a byte stream
aws_event_stream  AWS's frames in a byte stream
json_array     the elements of a JSON array that passes by in pieces
inlined        members and arrays inside a JSON object that passes by in pieces
result_lines   the results of a batch, line by line
shown_job      a job, with the results that stand in the same answer
watched        meters of answers that are only read
counts         counts in answers
topmost        outermost members of a JSON object that passes by in pieces
errors         what an error says of a key, and ours as bytes
plain_errors   the error of Cohere
"""
