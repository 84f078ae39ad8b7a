// A program that knows nothing of nearcache: it calls OpenAI's client, and `baseURL` is all.
//
//   nearcache serve --upstream https://api.openai.com/v1 --store sqlite:///vectors.db
//   npm install openai
//   OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=sk-… node examples/proxy.mjs
//
// What `examples/proxy.py` has embedded is not paid for again, and the other way round.
import OpenAI from 'openai'

const texts = [
  'Where is my order?',
  'I want to return a lamp.',
  'Where is my order?',
  'Can I change my address?',
]

const client = new OpenAI() // reads OPENAI_BASE_URL and OPENAI_API_KEY
const model = process.env.MODEL ?? 'text-embedding-3-small'
const began = performance.now()
const { data, response } = await client.embeddings.create({ model, input: texts }).withResponse()
const took = performance.now() - began
console.log(`${data.data.length} vectors of ${data.data[0].embedding.length} dimensions`)
console.log(`${took.toFixed(0)} ms, ${data.usage.prompt_tokens} tokens paid for`)
console.log(response.headers.get('x-nearcache') ?? 'no proxy in between')
