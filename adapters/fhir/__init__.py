"""SAS over FHIR R4: the national contract INT_R01, INT_R04, SOS Médecins, INT_R02 and INT_R03.

```
names         every canonical URL, system and code of the contract, in one place
instants      instants as the wire writes them; the ways a search bound comes in
identifiers   national identifiers with their prefix, search tokens, phones
resources     thin models that read any resource without loss
searchsets    places → Bundle, as an agenda manager answers
reading       Bundle → places, as an aggregator reads what an editor answered
appointments  INT_R03, both ways        accounts  INT_R02, what a regulator account must be
outcomes      OperationOutcome          profiles, checking  what a document owes to its profile
```

Resources are our own thin pydantic models, not a typed library: those check base R4 only and none of the SAS profiles,
and a bundle is answered as plain dicts because models on the way out halve the throughput (platform notes, section 5).
"""
